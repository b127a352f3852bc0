package sdk_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

var openAITalks = []talk{
	{name: "a chat", kind: "openai", do: chat, want: "far heard: Hello, 世界 <&>  \x7f"},
	{name: "a chat that is streamed", kind: "openai", do: chatStream, want: "far heard: Count from one to ten, please"},
	{name: "a chat that calls a tool and hears what it says", kind: "openai", do: chatTool, want: `weather({"city":"sample","days":1}) far thanks the tool.`},
	{name: "a tool's call that is streamed", kind: "openai", do: chatToolStream, want: `weather({"city":"sample","days":1})`},
	{name: "a chat about images, one in the request and one elsewhere", kind: "openai", do: chatImages, want: "far saw 2 image(s) and heard: What is this?"},
	{name: "a response", kind: "openai", do: response, want: "far heard: Hello"},
	{name: "a response that is streamed", kind: "openai", do: responseStream, want: "far heard: Count from one to ten, please"},
	{name: "a response that calls a tool and hears what it says", kind: "openai", do: responseTool, want: `weather({"city":"sample","days":1}) far thanks the tool.`},
	{name: "a response's call of a tool that is streamed", kind: "openai", do: responseToolStream, want: `weather({"city":"sample","days":1})`},
	{name: "a response about images", kind: "openai", do: responseImages, want: "far saw 2 image(s) and heard: What is this?"},
	{name: "embeddings as numbers", kind: "openai", do: embeddings, want: "2 of 5 numbers"},
	{name: "embeddings in base64", kind: "openai", do: embeddingsInBase64, want: "1 of 8 numbers"},
}

// schema is of the arguments of the tool "weather".
var schema = map[string]any{
	"type":       "object",
	"properties": map[string]any{"city": map[string]any{"type": "string"}, "days": map[string]any{"type": "integer"}},
	"required":   []string{"city"},
}

func chatParams(model, text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
}

func (h *heard) completion(c *openai.ChatCompletion) {
	h.asked++
	h.parts = append(h.parts, c.RawJSON())
	h.usage(c.Usage.PromptTokens, c.Usage.CompletionTokens, c.Usage.PromptTokensDetails.CachedTokens)
}

func chat(ctx context.Context, s *seat, model string) (h heard, err error) {
	c, err := s.openAI.Chat.Completions.New(ctx, chatParams(model, "Hello, 世界 <&>  \x7f"))
	if err != nil {
		return h, err
	}
	h.completion(c)
	h.text = c.Choices[0].Message.Content
	return h, nil
}

// chunks takes a stream in, and leaves what it adds up to in acc.
func (h *heard) chunks(ctx context.Context, s *seat, params openai.ChatCompletionNewParams, acc *openai.ChatCompletionAccumulator) error {
	params.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := s.openAI.Chat.Completions.NewStreaming(ctx, params)
	defer stream.Close()
	h.asked++
	for stream.Next() {
		chunk := stream.Current()
		h.parts = append(h.parts, chunk.RawJSON())
		if !acc.AddChunk(chunk) {
			return fmt.Errorf("the client cannot add %s", chunk.RawJSON())
		}
	}
	h.usage(acc.Usage.PromptTokens, acc.Usage.CompletionTokens, acc.Usage.PromptTokensDetails.CachedTokens)
	return stream.Err()
}

func chatStream(ctx context.Context, s *seat, model string) (h heard, err error) {
	var acc openai.ChatCompletionAccumulator
	if err := h.chunks(ctx, s, chatParams(model, "Count from one to ten, please"), &acc); err != nil {
		return h, err
	}
	h.text = acc.Choices[0].Message.Content
	return h, nil
}

func withTool(params openai.ChatCompletionNewParams) openai.ChatCompletionNewParams {
	params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{
		Name: "weather", Description: openai.String("Weather of a city"), Parameters: schema,
	})}
	return params
}

func chatTool(ctx context.Context, s *seat, model string) (h heard, err error) {
	params := withTool(chatParams(model, "How is the weather?"))
	c, err := s.openAI.Chat.Completions.New(ctx, params)
	if err != nil {
		return h, err
	}
	h.completion(c)
	said := c.Choices[0].Message
	if len(said.ToolCalls) != 1 {
		return h, errors.New("no tool was called")
	}
	call := said.ToolCalls[0]
	h.text = fmt.Sprintf("%s(%s)", call.Function.Name, call.Function.Arguments)
	params.Messages = append(params.Messages, said.ToParam(), openai.ToolMessage("It rains.", call.ID))
	if c, err = s.openAI.Chat.Completions.New(ctx, params); err != nil {
		return h, err
	}
	h.completion(c)
	h.text += " " + c.Choices[0].Message.Content
	return h, nil
}

func chatToolStream(ctx context.Context, s *seat, model string) (h heard, err error) {
	var acc openai.ChatCompletionAccumulator
	if err := h.chunks(ctx, s, withTool(chatParams(model, "How is the weather?")), &acc); err != nil {
		return h, err
	}
	for _, call := range acc.Choices[0].Message.ToolCalls {
		h.text += fmt.Sprintf("%s(%s)", call.Function.Name, call.Function.Arguments)
	}
	return h, nil
}

func chatImages(ctx context.Context, s *seat, model string) (h heard, err error) {
	image := func(url string) openai.ChatCompletionContentPartUnionParam {
		return openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: url, Detail: "low"})
	}
	params := chatParams(model, "")
	params.Messages[0] = openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
		openai.TextContentPart("What is this?"), image("data:image/png;base64," + picture(1<<20)), image(pictureURL),
	})
	c, err := s.openAI.Chat.Completions.New(ctx, params)
	if err != nil {
		return h, err
	}
	h.completion(c)
	h.text = c.Choices[0].Message.Content
	return h, nil
}

func responseParams(model, text string) responses.ResponseNewParams {
	return responses.ResponseNewParams{Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(text)}}
}

func (h *heard) tell(r *responses.Response) {
	h.asked++
	h.parts = append(h.parts, r.RawJSON())
	h.usage(r.Usage.InputTokens, r.Usage.OutputTokens, r.Usage.InputTokensDetails.CachedTokens)
}

func response(ctx context.Context, s *seat, model string) (h heard, err error) {
	r, err := s.openAI.Responses.New(ctx, responseParams(model, "Hello"))
	if err != nil {
		return h, err
	}
	h.tell(r)
	h.text = r.OutputText()
	return h, nil
}

// pieces takes a stream in, and returns the text and the arguments that its
// pieces make.
func (h *heard) pieces(ctx context.Context, s *seat, params responses.ResponseNewParams) (text, arguments string, last responses.Response, err error) {
	stream := s.openAI.Responses.NewStreaming(ctx, params)
	defer stream.Close()
	for stream.Next() {
		event := stream.Current()
		h.parts = append(h.parts, event.RawJSON())
		switch event := event.AsAny().(type) {
		case responses.ResponseOutputItemAddedEvent:
			arguments += event.Item.Arguments.OfString
			for _, part := range event.Item.Content {
				text += part.Text
			}
		case responses.ResponseContentPartAddedEvent:
			text += event.Part.Text
		case responses.ResponseTextDeltaEvent:
			text += event.Delta
		case responses.ResponseFunctionCallArgumentsDeltaEvent:
			arguments += event.Delta
		case responses.ResponseCompletedEvent:
			last = event.Response
			h.tell(&last)
		}
	}
	return text, arguments, last, stream.Err()
}

func responseStream(ctx context.Context, s *seat, model string) (h heard, err error) {
	text, _, last, err := h.pieces(ctx, s, responseParams(model, "Count from one to ten, please"))
	if err == nil && last.OutputText() != text {
		err = fmt.Errorf("the pieces make %q, the whole is %q", text, last.OutputText())
	}
	h.text = text
	return h, err
}

func withFunction(params responses.ResponseNewParams) responses.ResponseNewParams {
	params.Tools = []responses.ToolUnionParam{responses.ToolParamOfFunction("weather", schema, false)}
	return params
}

func responseToolStream(ctx context.Context, s *seat, model string) (h heard, err error) {
	_, arguments, last, err := h.pieces(ctx, s, withFunction(responseParams(model, "How is the weather?")))
	if err != nil || len(last.Output) != 1 {
		return h, fmt.Errorf("%d items, %w", len(last.Output), err)
	}
	h.text = fmt.Sprintf("%s(%s)", last.Output[0].Name, arguments)
	return h, nil
}

func responseTool(ctx context.Context, s *seat, model string) (h heard, err error) {
	params := withFunction(responseParams(model, "How is the weather?"))
	r, err := s.openAI.Responses.New(ctx, params)
	if err != nil {
		return h, err
	}
	h.tell(r)
	if len(r.Output) != 1 || r.Output[0].Type != "function_call" {
		return h, errors.New("no tool was called")
	}
	call := r.Output[0].AsFunctionCall()
	h.text = fmt.Sprintf("%s(%s)", call.Name, call.Arguments)
	said := responses.ResponseInputItemParamOfFunctionCallOutput("It rains.")
	said.OfFunctionCallOutput.CallID = openai.String(call.CallID)
	params.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
		responses.ResponseInputItemParamOfMessage("How is the weather?", responses.EasyInputMessageRoleUser),
		responses.ResponseInputItemParamOfFunctionCall(call.Arguments, call.CallID, call.Name), said,
	}}
	if r, err = s.openAI.Responses.New(ctx, params); err != nil {
		return h, err
	}
	h.tell(r)
	h.text += " " + r.OutputText()
	return h, nil
}

func responseImages(ctx context.Context, s *seat, model string) (h heard, err error) {
	image := func(url string) responses.ResponseInputContentUnionParam {
		part := responses.ResponseInputContentParamOfInputImage(responses.ResponseInputImageDetailLow)
		part.OfInputImage.ImageURL = openai.String(url)
		return part
	}
	params := responseParams(model, "")
	params.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
		responses.ResponseInputItemParamOfMessage(responses.ResponseInputMessageContentListParam{
			responses.ResponseInputContentParamOfInputText("What is this?"), image("data:image/png;base64," + picture(600)), image(pictureURL),
		}, responses.EasyInputMessageRoleUser),
	}}
	r, err := s.openAI.Responses.New(ctx, params)
	if err != nil {
		return h, err
	}
	h.tell(r)
	h.text = r.OutputText()
	return h, nil
}

func (h *heard) vectors(e *openai.CreateEmbeddingResponse) {
	h.asked++
	h.parts = append(h.parts, e.RawJSON())
	h.usage(e.Usage.PromptTokens, 0, 0)
}

func embeddings(ctx context.Context, s *seat, model string) (h heard, err error) {
	e, err := s.openAI.Embeddings.New(ctx, openai.EmbeddingNewParams{
		Model: model, Dimensions: openai.Int(5), EncodingFormat: openai.EmbeddingNewParamsEncodingFormatFloat,
		Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one", "two"}},
	})
	if err != nil {
		return h, err
	}
	h.vectors(e)
	for _, v := range e.Data {
		h.parts = append(h.parts, fmt.Sprint(v.Embedding))
	}
	h.text = fmt.Sprintf("%d of %d numbers", len(e.Data), len(e.Data[0].Embedding))
	return h, nil
}

func embeddingsInBase64(ctx context.Context, s *seat, model string) (h heard, err error) {
	e, err := s.openAI.Embeddings.New(ctx, openai.EmbeddingNewParams{
		Model: model, EncodingFormat: openai.EmbeddingNewParamsEncodingFormatBase64,
		Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("one")},
	})
	if err != nil {
		return h, err
	}
	h.vectors(e)
	h.text = fmt.Sprintf("%d of %d numbers", len(e.Data), len(e.Data[0].Embedding))
	return h, nil
}
