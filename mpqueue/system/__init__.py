"""Process hygiene: descriptors, interrupts, forks and deaths, as the operating system deals them."""
