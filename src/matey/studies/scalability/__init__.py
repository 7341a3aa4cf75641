"""How far does one sample go? Tokens, memory and time, from a thousand tokens to a million."""
