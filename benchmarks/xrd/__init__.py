"""Does a powder pattern tell the right crystal?"""
