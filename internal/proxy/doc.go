// Package proxy answers clients of the data plane from the channels that
// routing chose.
//
//	client ──▶ admit ──▶ ReadAsk ──▶ Router.Plan ──▶ attempt ──▶ upstream
//	              │          │            ▲             │  │
//	              │          │            └─ withdrawn ─┘  ├─ 429, 5xx, silence: the next channel
//	              ▼          ▼                             ▼
//	         error in the caller's own format       answer, byte for byte ──▶ client
//	                                                       └──▶ meter ──▶ Journal
//
// What a caller may rely on:
//
//   - The body is forwarded byte for byte; where a model override applies, only
//     the value of "model" differs. Answers are never altered, and each piece is
//     passed on when it arrives.
//   - Until the first byte of an answer has come, another channel may take over.
//     After it an answer that breaks off is cut, so that it never looks whole.
//   - No credential travels further than it must: the client's stay here, the
//     channel's go to its own address only, which is checked when it is dialled,
//     and redirects are not followed. An upstream that quotes one back is not
//     passed on: of an answer of status 400 or more 64 KiB are looked at first.
//   - A request that comes back to the fleet that sent it is refused.
//   - Every attempt's Done is called exactly once, and every request that was
//     let in is in the Journal exactly once.
//   - Once Withdraw has returned, not a byte of a request that was not under way
//     before is written to a channel that was withdrawn.
package proxy
