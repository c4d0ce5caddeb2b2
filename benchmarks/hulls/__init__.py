"""Are known crystals as stable by a potential's own hull as they are published to be?"""
