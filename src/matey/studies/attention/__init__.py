"""Does decoupled attention pay?"""
