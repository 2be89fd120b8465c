import { Code, codeOfClose, isSuccess } from './codes.js';
import type { Environment } from './environment.js';
import { ConnectionLostError, ServerError } from './errors.js';
import { decodeFrame, encodeFrame, type Frame, FrameType } from './frames.js';
import { closeWithoutLogout, type WebSocketConstructor, type WebSocketLike } from './socket.js';

/** What a connection is made with. */
export interface ConnectionConfig {
  url: string;
  WebSocket: WebSocketConstructor;
  environment: Environment;
  /** The login frame. */
  login: Frame;
  /** Bounds connecting and logging in together. */
  loginTimeoutMs: number;
  /** Called once, when the login succeeded. */
  onLogin(answer: Frame): void;
  /** Called for every other frame that the connection does not handle itself. */
  onFrame(frame: Frame): void;
  /** Called once, with why the connection is of no use any more, unless it was closed from this side. */
  onEnd(reason: ServerError | ConnectionLostError): void;
}

const defaultHeartbeatSeconds = 10;
/** So many heartbeats in a row without a frame from the server mean that the connection is dead. */
const silentHeartbeats = 3;
/** How long the server may take to answer when there is reason to doubt the connection. */
const probeTimeoutMs = 5_000;
/** How long the server may take to close after a logout. It waits up to 2 s for the registry of sessions. */
const logoutTimeoutMs = 5_000;

/** One WebSocket: it logs in, pings, and ends once. */
export class Connection {
  readonly #config: ConnectionConfig;
  readonly #socket: WebSocketLike;
  #cancelLoginTimeout: () => void;
  #cancelHeartbeat = () => {};
  #cancelProbe = () => {};
  /** Heartbeats since the last frame from the server. */
  #silent = 0;
  /** The last refusal that the server did not send as an answer: it explains the close frame after it. */
  #complaint: Frame | undefined;
  /** Who waits for the answers of pings, in the order in which they were sent. */
  readonly #pings: (() => void)[] = [];
  #loginSent = false;
  #loggedIn = false;
  #ended = false;
  #onClosed = () => {};

  /** Starts to connect. No callback is called before the constructor has returned. */
  constructor(config: ConnectionConfig) {
    this.#config = config;
    const socket = new config.WebSocket(config.url); // which may throw
    this.#cancelLoginTimeout = config.environment.after(config.loginTimeoutMs, () =>
      this.#fail(`no answer to the login within ${config.loginTimeoutMs} ms`),
    );
    this.#socket = socket;
    socket.onopen = () => {
      this.#loginSent = true;
      this.send(config.login);
    };
    socket.onmessage = (event: { data: unknown }) => this.#receive(event.data);
    socket.onerror = () => {}; // tells less than the close event that follows it
    socket.onclose = (event: { code: number; reason: string }) => this.#closed(event.code, event.reason);
  }

  /** Whether the server may have taken this login already. */
  get loginSent(): boolean {
    return this.#loginSent;
  }

  /** Sends a frame, if the connection is still of use. */
  send(frame: Frame): void {
    this.sendText(encodeFrame(frame));
  }

  /** Sends a frame that is encoded already. */
  sendText(text: string): void {
    if (this.#ended) {
      return;
    }
    try {
      this.#socket.send(text);
    } catch {
      this.#fail('the connection takes nothing any more');
    }
  }

  /** Asks for an answer and calls back when it comes. */
  ping(onAnswer = () => {}): void {
    this.#pings.push(onAnswer);
    this.send({ type: FrameType.Ping });
  }

  /** Finds out within a short time whether the connection still works. */
  probe(): void {
    if (this.#ended || !this.#loggedIn) {
      return;
    }
    this.#cancelProbe();
    this.#cancelProbe = this.#config.environment.after(probeTimeoutMs, () => this.#fail('the server does not answer'));
    this.ping();
  }

  /** Ends the connection without logging out. onEnd is not called. */
  close(): void {
    this.#end();
    this.#onClosed();
  }

  /** Logs out, and returns when the server has closed the connection, or does not. onEnd is not called. */
  async logOut(): Promise<void> {
    if (this.#ended || !this.#loggedIn) {
      this.close();
      return;
    }
    this.send({ type: FrameType.Logout });
    this.#stopTimers();
    this.#ended = true; // nothing but the close frame matters any more
    await new Promise<void>((resolve) => {
      const cancel = this.#config.environment.after(logoutTimeoutMs, resolve);
      this.#onClosed = () => {
        cancel();
        resolve();
      };
    });
    this.#release();
  }

  #receive(data: unknown): void {
    if (this.#ended) {
      return;
    }
    this.#silent = 0;
    this.#cancelProbe();
    const frame = typeof data === 'string' ? decodeFrame(data) : undefined;
    if (frame === undefined) {
      return; // of a newer server perhaps
    }
    switch (frame.type) {
      case FrameType.LoginResp:
        this.#answered(frame);
        break;
      case FrameType.Pong:
        this.#pings.shift()?.();
        break;
      case FrameType.HeartbeatTimeout:
      case FrameType.Kicked:
        this.#complaint = frame;
        if (frame.type === FrameType.Kicked) {
          this.#lost(ServerError.of({ code: Code.Replaced, ...frame }));
        }
        break;
      case FrameType.Unknown:
        this.#complaint = frame;
        if (this.#loggedIn) {
          this.#config.onFrame(frame);
        }
        break;
      default:
        if (this.#loggedIn) {
          this.#config.onFrame(frame);
        }
    }
  }

  /** Handles the answer to the login, or to one that renews the token. */
  #answered(frame: Frame): void {
    if (this.#loggedIn) {
      this.#config.onFrame(frame);
      return;
    }
    if (!isSuccess(frame.code ?? Code.Internal)) {
      this.#lost(ServerError.of(frame));
      return;
    }
    this.#loggedIn = true;
    this.#cancelLoginTimeout();
    this.#beat((frame.heartbeatSeconds || defaultHeartbeatSeconds) * 1000);
    this.#config.onLogin(frame);
  }

  /**
   * Pings after each interval. A timer that fires much too late tells that this program slept, and nothing about the
   * server: browsers throttle the timers of pages in the background to one a minute.
   */
  #beat(intervalMs: number): void {
    const { environment } = this.#config;
    const due = environment.now() + intervalMs;
    this.#cancelHeartbeat = environment.after(intervalMs, () => {
      this.#silent = environment.now() - due > intervalMs ? 0 : this.#silent + 1;
      if (this.#silent >= silentHeartbeats) {
        this.#fail('the server is silent');
        return;
      }
      this.ping();
      if (!this.#ended) {
        this.#beat(intervalMs);
      }
    });
  }

  #closed(closeCode: number, reason: string): void {
    this.#onClosed();
    const code = codeOfClose(closeCode);
    if (code === undefined) {
      this.#lost(new ConnectionLostError(`the connection was closed with ${closeCode} ${reason}`.trimEnd(), closeCode));
      return;
    }
    const complaint = this.#complaint?.code === code ? this.#complaint : undefined;
    this.#lost(new ServerError(code, complaint?.message ?? reason, complaint?.delayMs));
  }

  #fail(why: string): void {
    this.#lost(new ConnectionLostError(why));
  }

  #lost(reason: ServerError | ConnectionLostError): void {
    if (!this.#ended) {
      this.#end();
      this.#config.onEnd(reason);
    }
  }

  #end(): void {
    if (!this.#ended) {
      this.#ended = true;
      this.#stopTimers();
      this.#release();
    }
  }

  #stopTimers(): void {
    this.#cancelLoginTimeout();
    this.#cancelHeartbeat();
    this.#cancelProbe();
  }

  /** Lets go of the socket: its close event may come minutes later, when the network is gone. */
  #release(): void {
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    try {
      socket.close(closeWithoutLogout);
    } catch {
      // It was not open, or is closed.
    }
  }
}
