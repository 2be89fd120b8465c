import { Code } from './codes.js';
import { type Frame, FrameType } from './frames.js';

/** Whom a message is for. */
export type Recipient =
  /** A user, on all devices. */
  | { to: string; group?: never; everyone?: never }
  /** The members of a group but the sender, who must be one. */
  | { group: string; to?: never; everyone?: never }
  /** Everybody who is online now, if the server allows it. It is not stored. */
  | { everyone: true; to?: never; group?: never };

/** A message to send. */
export type Outgoing = Recipient & {
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
};

/** The server's answer to a message that it took. */
export interface Receipt {
  readonly msgId: string;
  readonly clientMsgId: string;
  /** {@link Code}.OK: it is stored, and arrives also at devices that are not connected now. Accepted: it is not stored. */
  readonly code: number;
  /** When the server took it. */
  readonly time: Date;
  /** Of a message to everyone: how many gateways there are. */
  readonly gateways?: number;
  /** Of a message to everyone: how many gateways took it. */
  readonly reached?: number;
}

/** Returns the frame of a message. Throws a TypeError about a message that cannot be sent. */
export function frameOf(message: Outgoing, clientMsgId: string): Frame & { clientMsgId: string } {
  const { to, group, everyone, content } = message;
  if (content === undefined) {
    throw new TypeError('content is missing');
  }
  if (to !== undefined) {
    return { type: FrameType.Chat, toId: to, clientMsgId, content };
  }
  if (group !== undefined) {
    return { type: FrameType.GroupChat, groupId: group, clientMsgId, content };
  }
  if (everyone) {
    return { type: FrameType.Broadcast, clientMsgId, content };
  }
  throw new TypeError('one of to, group and everyone has to say whom the message is for');
}

/** Reads the answer to a message. */
export function receiptOf(answer: Frame, clientMsgId: string): Receipt {
  const { msgId = '', code = Code.OK, time = 0, gateways, reached } = answer;
  return {
    msgId,
    clientMsgId,
    code,
    time: new Date(time),
    ...(gateways === undefined ? {} : { gateways, reached: reached ?? 0 }),
  };
}
