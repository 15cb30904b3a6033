"""Every kind of body, as parts that can be sent."""
