"""Closed swarms: who belongs to one, who may let others in, and what others do not hear."""
