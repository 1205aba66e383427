from hypothesis import settings

# No time limit on an example: on a busy machine it says nothing about the code.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
