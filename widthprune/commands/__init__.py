"""What every command shares: the values its options may have, and how it ends when it is stopped.

In: words of the command line, or arguments of a function. Out: checked values, or one line that says what is wrong.
The commands themselves stand in their rooms. May import the core and `models`.
"""
