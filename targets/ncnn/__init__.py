"""ncnn on the CPU: segc's own emitter of `.param` and `.bin`, in layers that every ncnn has."""
