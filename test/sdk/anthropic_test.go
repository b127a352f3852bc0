package sdk_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
)

var anthropicTalks = []talk{
	{name: "a message", kind: "anthropic", do: message, want: "far heard: Hello, 世界 <&>"},
	{name: "a message that is streamed", kind: "anthropic", do: messageStream, want: "far heard: Count from one to ten, please"},
	{name: "a message that calls a tool and hears what it says", kind: "anthropic", do: messageTool, want: `weather({"city":"sample","days":1}) far thanks the tool.`},
	{name: "a tool's call that is streamed", kind: "anthropic", do: messageToolStream, want: `weather({"city":"sample","days":1})`},
	{name: "a message about images, one in the request and one elsewhere", kind: "anthropic", do: messageImages, want: "far saw 2 image(s) and heard: What is this?"},
}

func messageParams(model string, blocks ...anthropic.ContentBlockParamUnion) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: model, MaxTokens: 1024, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(blocks...)},
	}
}

func (h *heard) message(m *anthropic.Message) {
	h.asked++
	u := m.Usage
	h.usage(u.InputTokens+u.CacheReadInputTokens+u.CacheCreationInputTokens, u.OutputTokens, u.CacheReadInputTokens)
}

func message(ctx context.Context, s *seat, model string) (h heard, err error) {
	m, err := s.anthropic.Messages.New(ctx, messageParams(model, anthropic.NewTextBlock("Hello, 世界 <&>")),
		option.WithHeader("Anthropic-Beta", "files-api-2025-04-14"))
	if err != nil {
		return h, err
	}
	h.message(m)
	h.parts, h.text = []string{m.RawJSON()}, m.Content[0].Text
	return h, nil
}

// events takes a stream in, and returns what it adds up to.
func (h *heard) events(ctx context.Context, s *seat, params anthropic.MessageNewParams) (*anthropic.Message, error) {
	stream := s.anthropic.Messages.NewStreaming(ctx, params)
	defer stream.Close()
	var m anthropic.Message
	for stream.Next() {
		event := stream.Current()
		h.parts = append(h.parts, event.RawJSON())
		if err := m.Accumulate(event); err != nil {
			return nil, err
		}
	}
	h.message(&m)
	if len(m.Content) == 0 && stream.Err() == nil {
		return nil, errors.New("the stream says nothing")
	}
	return &m, stream.Err()
}

func messageStream(ctx context.Context, s *seat, model string) (h heard, err error) {
	m, err := h.events(ctx, s, messageParams(model, anthropic.NewTextBlock("Count from one to ten, please")))
	if err != nil {
		return h, err
	}
	h.text = m.Content[0].Text
	return h, nil
}

func withWeather(params anthropic.MessageNewParams) anthropic.MessageNewParams {
	params.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{
		Name: "weather", Description: anthropic.String("Weather of a city"),
		InputSchema: anthropic.ToolInputSchemaParam{Properties: schema["properties"], Required: []string{"city"}},
	}}}
	return params
}

func called(m *anthropic.Message) (anthropic.ToolUseBlock, string, error) {
	for _, block := range m.Content {
		if call, ok := block.AsAny().(anthropic.ToolUseBlock); ok {
			return call, fmt.Sprintf("%s(%s)", call.Name, call.Input), nil
		}
	}
	return anthropic.ToolUseBlock{}, "", errors.New("no tool was called")
}

func messageTool(ctx context.Context, s *seat, model string) (h heard, err error) {
	params := withWeather(messageParams(model, anthropic.NewTextBlock("How is the weather?")))
	m, err := s.anthropic.Messages.New(ctx, params)
	if err != nil {
		return h, err
	}
	h.message(m)
	call, text, err := called(m)
	if err != nil {
		return h, err
	}
	params.Messages = append(params.Messages, m.ToParam(), anthropic.NewUserMessage(anthropic.NewToolResultBlock(call.ID, "It rains.", false)))
	again, err := s.anthropic.Messages.New(ctx, params)
	if err != nil {
		return h, err
	}
	h.message(again)
	h.parts, h.text = []string{m.RawJSON(), again.RawJSON()}, text+" "+again.Content[0].Text
	return h, nil
}

func messageToolStream(ctx context.Context, s *seat, model string) (h heard, err error) {
	m, err := h.events(ctx, s, withWeather(messageParams(model, anthropic.NewTextBlock("How is the weather?"))))
	if err != nil {
		return h, err
	}
	_, h.text, err = called(m)
	return h, err
}

func messageImages(ctx context.Context, s *seat, model string) (h heard, err error) {
	m, err := s.anthropic.Messages.New(ctx, messageParams(model, anthropic.NewTextBlock("What is this?"),
		anthropic.NewImageBlockBase64("image/png", picture(1<<20)), anthropic.NewImageBlock(anthropic.URLImageSourceParam{URL: pictureURL})))
	if err != nil {
		return h, err
	}
	h.message(m)
	h.parts, h.text = []string{m.RawJSON()}, m.Content[0].Text
	return h, nil
}
