/** Whether a user is online. `unknown` is not offline: the reason says what it is. */
export type PresenceState = 'online' | 'offline' | 'unknown';

/** An online device of a user. */
export interface Device {
  readonly id: string;
  readonly platform?: string;
  /** The pod that the device is connected to. */
  readonly gateway: string;
  /** RFC 3339. */
  readonly loginTime: string;
}

/** What the service knows of a user. */
export interface UserPresence {
  readonly user: string;
  readonly state: PresenceState;
  /** Only if the state is unknown: never_seen, or unavailable when the service could not find out now. */
  readonly reason?: 'never_seen' | 'unavailable';
  /** When an offline user's last session ended; RFC 3339. */
  readonly lastSeen?: string;
  /** Those online. */
  readonly devices: readonly Device[];
}

/** How far an answer can be believed. */
export interface Freshness {
  /** When it was true; RFC 3339. */
  readonly asOf: string;
  /** Whether something could not be read: users may be missing from lists and counts, and answers may be unknown. */
  readonly degraded: boolean;
}

/** How many are online. */
export interface OnlineCount extends Freshness {
  /** Each user once. */
  readonly users: number;
  /** Each device. */
  readonly sessions: number;
  readonly gateways: readonly { readonly pod: string; readonly sessions: number }[];
}

/** A part of the list of online users. */
export interface OnlinePage extends Freshness {
  readonly users: readonly string[];
  /** Asks for the next page; absent after the last one. */
  readonly nextCursor?: string;
}

/** How to reach the presence service. */
export interface PresenceOptions {
  /** Scheme, host and port, such as http://chat-presence. */
  url: string;
  /** The API key. It opens everything: keep it on your servers, and out of pages. */
  apiKey: string;
  /** Sends the requests, instead of the global fetch. */
  fetch?: typeof fetch;
}

/** What every request may be given. */
export interface RequestOptions {
  signal?: AbortSignal;
}

/** Whom a message of the back end is for. */
export type Audience =
  | { user: string }
  /** At most 1,000; each gets a message of its own. */
  | { users: readonly string[] }
  | { group: string }
  /** Who is online now; not stored. */
  | { everyone: true };

/** A message that a back end sends. */
export type BackEndMessage = Audience & {
  /** Who the recipients see as the sender: any user id. */
  from: string;
  /** Any JSON value, at most 64 KiB. */
  content: unknown;
  /** Makes it the same message when it is sent again. Without it, the answer has the one to use, also that of an error. */
  id?: string;
};

/** What became of a message for one of several users. */
export interface SendResult {
  readonly user: string;
  /** stored, or the code of an error. */
  readonly status: string;
  readonly msgId?: string;
}

/** What became of a message of the back end. */
export interface BackEndReceipt {
  /** What the message is to be sent again with. */
  readonly id: string;
  /** What recipients see as the id; of a message to several users each has its own, in results. */
  readonly msgId?: string;
  /** RFC 3339. */
  readonly time: string;
  /** One for each of several users, in their order. */
  readonly results?: readonly SendResult[];
  /** Of a message to everyone: how many gateways there are, */
  readonly gateways?: number;
  /** and how many of them took it. */
  readonly reached?: number;
}

/** A group, as the service describes it. */
export interface GroupInfo {
  readonly group: string;
  /** May change it from a client; absent if only the back end may. */
  readonly owner?: string;
  /** How many there are. */
  readonly members: number;
  /** RFC 3339. */
  readonly created: string;
}

/** Which sessions of a user end. Without device and tokenId, of which only one may be set: all. */
export interface Disconnection {
  device?: string;
  /** jti of a JSON Web Token. */
  tokenId?: string;
  /** Until when tokens are refused that were issued until now. Default: 24 h from now. */
  until?: Date;
  /** Told to the clients; at most 256 bytes. */
  reason?: string;
}
