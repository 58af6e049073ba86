"""The hypergradient engine: training on synthetic data, and the derivative of that training.

`unroll` trains without keeping a graph, and differentiates the last steps by an adjoint sweep. An
`InnerLoss` supplies the derivatives of one step: by autograd for any network, or by hand-derived
kernels for the ConvNet.

May import: data, layout, distributed and what stands below them.
"""
