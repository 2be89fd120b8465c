/** Frame types; see docs/protocol.md. */
export const FrameType = {
  Unknown: 0,
  Login: 10,
  LoginResp: 11,
  Logout: 12,
  HeartbeatTimeout: 30,
  Reconnect: 31,
  Kicked: 32,
  Ping: 40,
  Pong: 41,
  PresenceQuery: 50,
  PresenceResp: 51,
  Subscribe: 52,
  SubscribeResp: 53,
  PresenceEvent: 54,
  SetStatus: 56,
  SetStatusResp: 57,
  OnlineList: 58,
  OnlineListResp: 59,
  Chat: 80,
  ChatResp: 81,
  GroupChat: 82,
  GroupChatResp: 83,
  Group: 84,
  GroupResp: 85,
  Broadcast: 86,
  BroadcastResp: 87,
  Ack: 90,
  AckResp: 91,
} as const;

/** Actions of a GROUP frame. */
export const GroupAction = {
  Create: 'create',
  Add: 'add',
  Remove: 'remove',
  Members: 'members',
  Delete: 'delete',
} as const;

/** Actions of a PRESENCE_SUBSCRIBE frame. */
export const SubscriptionAction = {
  Subscribe: 'subscribe',
  Unsubscribe: 'unsubscribe',
  Replace: 'replace',
} as const;

/** The fields of frames that are texts. */
export const textFields = [
  'message',
  'token',
  'fromId',
  'toId',
  'userId',
  'deviceId',
  'platform',
  'sessionId',
  'msgId',
  'clientMsgId',
  'requestId',
  'groupId',
  'action',
  'owner',
  'cursor',
  'status',
  'statusText',
] as const;

/** The fields of frames that are whole numbers. */
export const numberFields = [
  'code',
  'time',
  'heartbeatSeconds',
  'expiresAt',
  'delayMs',
  'limit',
  'count',
  'gateways',
  'reached',
  'missed',
  'asOf',
] as const;

/** One user in the field `presence`. */
export interface PresenceFields {
  userId: string;
  state: string;
  reason?: string;
  status?: string;
  text?: string;
  lastSeen?: number;
  platforms?: string[];
}

/** A frame of either direction. Which fields it has depends on its type. */
export type Frame = { type: number } & { [field in (typeof textFields)[number]]?: string } & {
  [field in (typeof numberFields)[number]]?: number;
} & {
  users?: string[];
  presence?: PresenceFields[];
  redelivered?: boolean;
  degraded?: boolean;
  content?: unknown;
};

/** Returns the JSON of a frame; the type goes as a string, as everything that is published shows it. */
export function encodeFrame(frame: Frame): string {
  return JSON.stringify({ ...frame, type: String(frame.type) });
}

/** Reads a frame of the server. Fields that are not known, or not of their kind, are left out; undefined if it is no frame. */
export function decodeFrame(text: string): Frame | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof json !== 'object' || json === null) {
    return undefined;
  }
  const fields = json as Record<string, unknown>;
  const type = typeof fields.type === 'string' && /^\d+$/.test(fields.type) ? Number(fields.type) : fields.type;
  if (typeof type !== 'number') {
    return undefined;
  }
  const frame: Frame = { type };
  for (const name of textFields) {
    const value = fields[name];
    if (typeof value === 'string') {
      frame[name] = value;
    }
  }
  for (const name of numberFields) {
    const value = fields[name];
    if (typeof value === 'number') {
      frame[name] = value;
    }
  }
  if (Array.isArray(fields.users)) {
    frame.users = fields.users.filter((user) => typeof user === 'string');
  }
  if (Array.isArray(fields.presence)) {
    frame.presence = fields.presence.map(presenceOf).filter((user) => user !== undefined);
  }
  if (fields.redelivered === true) {
    frame.redelivered = true;
  }
  if (fields.degraded === true) {
    frame.degraded = true;
  }
  if ('content' in fields) {
    frame.content = fields.content;
  }
  return frame;
}

/** Reads one user, undefined if it is none. */
function presenceOf(json: unknown): PresenceFields | undefined {
  if (typeof json !== 'object' || json === null) {
    return undefined;
  }
  const fields = json as Record<string, unknown>;
  const { userId, state, lastSeen, platforms } = fields;
  if (typeof userId !== 'string' || typeof state !== 'string') {
    return undefined;
  }
  const user: PresenceFields = { userId, state };
  for (const name of ['reason', 'status', 'text'] as const) {
    const value = fields[name];
    if (typeof value === 'string') {
      user[name] = value;
    }
  }
  if (typeof lastSeen === 'number') {
    user.lastSeen = lastSeen;
  }
  if (Array.isArray(platforms)) {
    user.platforms = platforms.filter((platform) => typeof platform === 'string');
  }
  return user;
}
