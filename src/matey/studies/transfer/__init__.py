"""Does pretraining help?"""
