"""Are known crystals found from their formula, and at which rank?"""
