"""Does a search that goes on find what the first one missed, and does it know when it is done?"""
