"""What a frozen network says of images: cut out of the whole network, run once, kept."""
