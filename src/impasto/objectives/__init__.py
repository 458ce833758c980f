"""The terms of the loss. Each measures sums over regions of the picture and scores the totals."""
