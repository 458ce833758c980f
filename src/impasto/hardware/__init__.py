"""The machine: devices, memory, allocator, processor load, fastest convolution."""
