"""What runs, scores and studies leave: dataclasses that write and read themselves."""
