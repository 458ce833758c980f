"""The machine: devices, memory, allocator, processor load, and its fastest convolutions."""
