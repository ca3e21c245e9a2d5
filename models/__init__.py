"""What a bundle is and how it runs: head (integers), coder tables, tail (LiteRT), figures.

Public: `models.bundle.Bundle` and `shipped`, `models.headfile.HeadFile`, `models.head.Head`,
`models.litert_head`, `models.tail.Tail`, `models.evaluate.evaluate`, `models.errors.BundleError`.
"""
