"""Composites of photographs: does the heat lie on the photograph that shares its category with the reference?"""
