"""Does a queue lose anything when what works on it is killed again and again?"""
