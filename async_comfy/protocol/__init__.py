"""The pure room: what frames mean, how a job lives, whom an event concerns.

Nothing here awaits, reads a clock, opens a socket or draws a random number; time and randomness
arrive as parameters, so that a whole session replays from a file.
"""
