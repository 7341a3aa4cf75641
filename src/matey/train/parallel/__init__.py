"""One model trained by several processes; torchrun starts them."""
