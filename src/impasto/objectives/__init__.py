"""What a picture is judged by: each objective measures additive sums over regions, then scores the
whole.
"""
