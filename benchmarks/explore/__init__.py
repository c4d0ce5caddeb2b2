"""Are the known stable phases of chemical systems found, where all that holds their elements is left out?"""
