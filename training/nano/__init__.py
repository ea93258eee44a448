"""RynnBrain-nano: a small model of the Qwen3-VL architecture, trained from nothing in closed
worlds of the simulator and saved as an ordinary checkpoint."""
