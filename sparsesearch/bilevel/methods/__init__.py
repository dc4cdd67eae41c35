"""Methods that learn sparsity by gradient, one a file, under the names that recipes use."""
