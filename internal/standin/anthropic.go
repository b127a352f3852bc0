package standin

import (
	"encoding/json"
	"net/http"
)

// messages answers …/messages.
func (s *reply) messages() {
	name, arguments, calls := s.ask.call()
	text, reason := s.ask.answer(s.o.Name), "end_turn"
	said := dict{"type": "text", "text": text}
	if calls {
		text, reason = arguments, "tool_use"
		said = dict{"type": "tool_use", "id": "toolu_" + s.id, "name": name, "input": json.RawMessage(arguments)}
	}
	all, output, cached := s.ask.usage(text)
	usage := dict{
		"input_tokens": all - cached, "output_tokens": output,
		"cache_read_input_tokens": cached, "cache_creation_input_tokens": 0,
	}
	whole := dict{
		"id": "msg_" + s.id, "type": "message", "role": "assistant", "model": s.ask.Model,
		"content": []dict{said}, "stop_reason": reason, "stop_sequence": nil, "usage": usage,
	}
	if !s.ask.Stream {
		s.json(http.StatusOK, whole)
		return
	}
	whole["content"], whole["stop_reason"], usage["output_tokens"] = []dict{}, nil, 1
	s.messageEvents(whole, said, text, dict{"stop_reason": reason, "stop_sequence": nil}, output)
}

// messageEvents streams a message that begins as start and says, or calls for, text.
func (s *reply) messageEvents(start, said dict, text string, end dict, output int) {
	var list []named
	add := func(kind string, data dict) {
		data["type"] = kind
		list = append(list, named{kind, data})
	}
	add("message_start", dict{"message": start})
	if said["type"] == "tool_use" {
		said["input"] = dict{}
		add("content_block_start", dict{"index": 0, "content_block": said})
		add("content_block_delta", dict{"index": 0, "delta": dict{"type": "input_json_delta", "partial_json": text}})
	} else {
		add("content_block_start", dict{"index": 0, "content_block": dict{"type": "text", "text": ""}})
		add("ping", dict{})
		for _, piece := range pieces(text) {
			add("content_block_delta", dict{"index": 0, "delta": dict{"type": "text_delta", "text": piece}})
		}
	}
	add("content_block_stop", dict{"index": 0})
	add("message_delta", dict{"delta": end, "usage": dict{"output_tokens": output}})
	add("message_stop", dict{})
	s.events(list)
}
