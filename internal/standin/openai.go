package standin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"net/http"
)

// made is when everything was made: answers do not depend on the clock.
const made = 1700000000

// chat answers …/chat/completions.
func (s *reply) chat() {
	name, arguments, calls := s.ask.call()
	text := s.ask.answer(s.o.Name)
	said, finish := dict{"role": "assistant", "content": text}, "stop"
	if calls {
		text, finish = arguments, "tool_calls"
		said = dict{"role": "assistant", "content": nil, "tool_calls": []dict{{
			"id": "call_" + s.id, "type": "function", "function": dict{"name": name, "arguments": arguments},
		}}}
	}
	input, output, cached := s.ask.usage(text)
	usage := dict{
		"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
		"prompt_tokens_details": dict{"cached_tokens": cached},
	}
	if s.ask.Stream {
		s.chatEvents(said, text, finish, usage)
		return
	}
	whole := s.completion("chat.completion", dict{"index": 0, "message": said, "finish_reason": finish})
	whole["usage"] = usage
	s.json(http.StatusOK, whole)
}

func (s *reply) completion(object string, choices ...dict) dict {
	return dict{
		"id": "chatcmpl-" + s.id, "object": object, "created": made, "model": s.ask.Model, "choices": append([]dict{}, choices...),
	}
}

// chatEvents streams what was said, a text or the calls of tools.
func (s *reply) chatEvents(said dict, text, finish string, usage dict) {
	chunk := func(delta dict, finish any) named {
		return named{data: s.completion("chat.completion.chunk", dict{"index": 0, "delta": delta, "finish_reason": finish})}
	}
	var list []named
	if calls, ok := said["tool_calls"].([]dict); ok {
		calls[0]["index"] = 0
		list = append(list, chunk(said, nil))
	} else {
		list = append(list, chunk(dict{"role": "assistant", "content": ""}, nil))
		for _, piece := range pieces(text) {
			list = append(list, chunk(dict{"content": piece}, nil))
		}
	}
	list = append(list, chunk(dict{}, finish))
	if s.ask.Options.Usage {
		last := s.completion("chat.completion.chunk")
		last["usage"] = usage
		list = append(list, named{data: last})
	}
	s.events(append(list, named{data: "[DONE]"}))
}

// responses answers …/responses.
func (s *reply) responses() {
	name, arguments, calls := s.ask.call()
	text := s.ask.answer(s.o.Name)
	item := dict{"id": "msg_" + s.id, "type": "message", "status": "completed", "role": "assistant", "content": []dict{part(text)}}
	if calls {
		text = arguments
		item = dict{
			"id": "fc_" + s.id, "type": "function_call", "status": "completed", "call_id": "call_" + s.id,
			"name": name, "arguments": arguments,
		}
	}
	if s.ask.Stream {
		s.responseEvents(item, text)
		return
	}
	s.json(http.StatusOK, s.response("completed", text, item))
}

func (s *reply) response(status, text string, items ...dict) dict {
	input, output, cached := s.ask.usage(text)
	return dict{
		"id": "resp_" + s.id, "object": "response", "created_at": made, "status": status, "model": s.ask.Model,
		"output": append([]dict{}, items...), "error": nil, "parallel_tool_calls": true, "tool_choice": "auto", "tools": []any{},
		"usage": dict{
			"input_tokens": input, "output_tokens": output, "total_tokens": input + output,
			"input_tokens_details": dict{"cached_tokens": cached}, "output_tokens_details": dict{"reasoning_tokens": 0},
		},
	}
}

// responseEvents streams a response of one item, which says text or calls with it.
func (s *reply) responseEvents(item dict, text string) {
	var list []named
	add := func(kind string, data dict) {
		data["type"], data["sequence_number"] = kind, len(list)
		list = append(list, named{kind, data})
	}
	at := func(more dict) dict {
		more["item_id"], more["output_index"] = item["id"], 0
		return more
	}
	begun := maps.Clone(item)
	begun["status"] = "in_progress"
	add("response.created", dict{"response": s.response("in_progress", text)})
	if item["type"] == "function_call" {
		begun["arguments"] = ""
		add("response.output_item.added", dict{"output_index": 0, "item": begun})
		add("response.function_call_arguments.delta", at(dict{"delta": text}))
		add("response.function_call_arguments.done", at(dict{"name": item["name"], "arguments": text}))
	} else {
		begun["content"] = []any{}
		add("response.output_item.added", dict{"output_index": 0, "item": begun})
		s.partEvents(text, func(kind string, data dict) {
			data["content_index"] = 0
			add(kind, at(data))
		})
	}
	add("response.output_item.done", dict{"output_index": 0, "item": item})
	add("response.completed", dict{"response": s.response("completed", text, item)})
	s.events(list)
}

// partEvents says text in a part of its own.
func (s *reply) partEvents(text string, add func(kind string, data dict)) {
	add("response.content_part.added", dict{"part": part("")})
	for _, piece := range pieces(text) {
		add("response.output_text.delta", dict{"delta": piece})
	}
	add("response.output_text.done", dict{"text": text})
	add("response.content_part.done", dict{"part": part(text)})
}

func part(text string) dict {
	return dict{"type": "output_text", "text": text, "annotations": []any{}}
}

// embeddings answers …/embeddings: the same text always lies at the same place,
// on the unit sphere.
func (s *reply) embeddings() {
	var inputs []json.RawMessage
	if json.Unmarshal(s.ask.Input, &inputs) != nil {
		inputs = []json.RawMessage{s.ask.Input}
	}
	size := s.ask.Dimensions
	if size <= 0 || size > 4096 {
		size = 8
	}
	data := make([]dict, len(inputs))
	for i, in := range inputs {
		var place any = vector(in, size)
		if s.ask.Encoding == "base64" {
			raw, _ := binary.Append(nil, binary.LittleEndian, place) // floats of a fixed size
			place = base64.StdEncoding.EncodeToString(raw)
		}
		data[i] = dict{"object": "embedding", "index": i, "embedding": place}
	}
	input, _, _ := s.ask.usage("")
	s.json(http.StatusOK, dict{
		"object": "list", "data": data, "model": s.ask.Model, "usage": dict{"prompt_tokens": input, "total_tokens": input},
	})
}

func vector(of []byte, size int) []float32 {
	v := make([]float32, size)
	sum := sha256.Sum256(of)
	var length float64
	for i := range v {
		if i%len(sum) == 0 {
			sum = sha256.Sum256(sum[:])
		}
		v[i] = float32(sum[i%len(sum)]) - 127.5
		length += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(length))
	}
	return v
}
