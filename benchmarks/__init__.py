"""What proves the speed: toolring beside what a user could pick instead, in one run on one machine."""
