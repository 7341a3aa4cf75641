"""Do adaptive tokens pay?"""
