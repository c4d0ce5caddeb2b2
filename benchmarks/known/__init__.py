"""Compositions whose known crystals the library holds: all kept, the lowest first?"""
