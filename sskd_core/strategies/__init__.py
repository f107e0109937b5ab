"""Who teaches whom and when: small declarations, no loops of their own."""
