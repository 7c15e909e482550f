"""The model family for text: GPT-2, or any causal language model of Hugging Face's on disk.

A document's way through this folder, top to bottom:

document_reader  sample numbers become texts, and texts the arrays of a batch
tokens           a text becomes token numbers: its bytes, or by the tokenizer beside a model
packing          documents become the rows of one training batch
model            the model that a run starts from
recipe           its sizes and training settings
evaluate         a checkpoint judged on held-out documents
family           all of it, as a run sees it
"""
