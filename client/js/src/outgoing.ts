import { Code } from './codes.js';
import type { Frame } from './frames.js';

/** What every message that is sent has. */
export interface Outgoing {
  /** Any JSON value; see {@link textContent}. */
  content: unknown;
  /**
   * Makes it possible to send the message again after an unknown outcome, even by another run of the program: the same
   * sender, recipient and clientMsgId is the same message. Without it, it is random.
   */
  clientMsgId?: string;
  /** How long it may wait for its receipt, in milliseconds, instead of the option sendTimeoutMs. */
  timeoutMs?: number;
  /** Gives up waiting. The message may have been sent or not. */
  signal?: AbortSignal;
}

/** The server's answer to a message that it took. */
export interface Receipt {
  readonly msgId: string;
  readonly clientMsgId: string;
  /** {@link Code}.OK: it is stored, and arrives also at devices that are not connected now. Accepted: it is not stored. */
  readonly code: number;
  /** When the server took it. */
  readonly time: Date;
}

/** The answer to a broadcast. */
export interface BroadcastReceipt extends Receipt {
  /** How many gateways there are. */
  readonly gateways: number;
  /** How many of them took the message. */
  readonly reached: number;
}

/** Reads the answer to a message. */
export function receiptOf(answer: Frame & { clientMsgId: string }): Receipt {
  return {
    msgId: answer.msgId ?? '',
    clientMsgId: answer.clientMsgId,
    code: answer.code ?? Code.OK,
    time: new Date(answer.time ?? 0),
  };
}
