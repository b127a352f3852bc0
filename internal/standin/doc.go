// Package standin is an upstream that makes its answers up, for the demo and for
// tests. It is no model: the same request always gets the same answer.
//
//	…/chat/completions  …/responses  …/embeddings   in OpenAI's format
//	…/messages                                      in Anthropic's
//	  whole or streamed, with tools, images and usage, and errors where a request is wrong
//
// Any path that ends like one of these is served, so a stand-in can take the
// place of every provider, whatever its base URL looks like.
package standin
