"""Can a portrait be read? Line-ups for programs and for people."""
