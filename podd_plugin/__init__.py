"""PoDD: posters, PoDDL labels and PoCO class orders, as a plugin of distill."""
