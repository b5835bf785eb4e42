"""What is decided: events in, effects out.

Standard library only. No clock, no thread, no socket, no log: time comes in as an argument, and what is to be done
goes out as a value. Of ours it imports nothing but `vmhb_common.model`.
"""
