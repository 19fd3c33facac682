"""Rules and methods compared by interventions: is what a map marks necessary, sufficient and specific?"""
