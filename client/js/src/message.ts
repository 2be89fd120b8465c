import { type Frame, FrameType } from './frames.js';

/** A message that was received. */
export interface Message {
  /** The server's id. The same message has the same id however often it is sent. */
  readonly id: string;
  /** chat: to this user; group: to the members of a group; broadcast: to everybody online. */
  readonly kind: 'chat' | 'group' | 'broadcast';
  readonly from: string;
  /** The user it was sent to; of a chat only. */
  readonly to: string | undefined;
  /** The group it was sent to; of a group message only. */
  readonly group: string | undefined;
  readonly clientMsgId: string | undefined;
  /** When the server took it. */
  readonly time: Date;
  /** What the sender sent: any JSON value. Check what it is before you use it. */
  readonly content: unknown;
  /** The text, if the content is that of a text message: see {@link textContent}. */
  readonly text: string | undefined;
  /** Whether it was sent before on this connection. */
  readonly redelivered: boolean;
  /** How many messages before this one are lost to this device: too old, or too many while it was away. Usually 0. */
  readonly missed: number;
  /** Has it handed out again when it comes again, in the place of ack; see {@link Client.giveBack}. */
  giveBack(): void;
  /** Acknowledges the message, if the client does not do it by itself; see {@link Client.ack}. */
  ack(): Promise<void>;
}

/** The content of a text message. */
export interface TextContent {
  contentType: 1;
  body: string;
}

/** Returns the content of a text message: `{"contentType":1,"body":"…"}`. */
export function textContent(text: string): TextContent {
  return { contentType: 1, body: text };
}

const kinds: Readonly<Record<number, Message['kind']>> = {
  [FrameType.Chat]: 'chat',
  [FrameType.GroupChat]: 'group',
  [FrameType.Broadcast]: 'broadcast',
};

/** What the methods of a message call. */
export interface Acknowledger {
  ack(msgId: string): Promise<void>;
  giveBack(msgId: string): void;
}

/** Returns the message of a frame; undefined if it is none, or has no id. */
export function messageOf(frame: Frame, client: Acknowledger): Message | undefined {
  const kind = kinds[frame.type];
  const id = frame.msgId;
  if (kind === undefined || id === undefined) {
    return undefined;
  }
  return {
    id,
    kind,
    from: frame.fromId ?? '',
    to: frame.toId,
    group: frame.groupId,
    clientMsgId: frame.clientMsgId,
    time: new Date(frame.time ?? 0),
    content: frame.content,
    text: textOf(frame.content),
    redelivered: frame.redelivered ?? false,
    missed: frame.missed ?? 0,
    ack: () => client.ack(id),
    giveBack: () => client.giveBack(id),
  };
}

function textOf(content: unknown): string | undefined {
  if (typeof content === 'object' && content !== null && 'body' in content && typeof content.body === 'string') {
    return content.body;
  }
  return undefined;
}
