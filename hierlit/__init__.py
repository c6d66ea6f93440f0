"""hierlit: layerwise training of deep networks on labels that form an unknown hierarchy."""
