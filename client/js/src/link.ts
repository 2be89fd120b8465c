import { backoffDelay } from './backoff.js';
import { Code, endsSession } from './codes.js';
import { Connection } from './connection.js';
import type { Environment } from './environment.js';
import { ConnectionLostError, ServerError, TimeoutError } from './errors.js';
import { type Frame, FrameType } from './frames.js';
import { type Login, loginOf } from './login.js';
import type { Settings } from './options.js';
import type { WebSocketConstructor } from './socket.js';

/** What the client is doing about its connection. */
export type State =
  /** Nothing yet: connect was not called. */
  | { readonly status: 'new' }
  /** It connects and logs in; failures tells how many attempts in a row have failed. */
  | { readonly status: 'connecting'; readonly failures: number }
  | { readonly status: 'online'; readonly login: Login }
  /** It connects again after delayMs, because of reason. */
  | { readonly status: 'waiting'; readonly delayMs: number; readonly failures: number; readonly reason: Error }
  /** It does not connect any more: because of reason, or because this program said so. */
  | { readonly status: 'closed'; readonly reason: Error | undefined };

/** What a link is made with. */
export interface LinkConfig {
  settings: Settings;
  urls: readonly string[];
  WebSocket: WebSocketConstructor;
  environment: Environment;
  /** The login frame, without the token. */
  login: Frame;
  onState(state: State): void;
  /** Called when a connection has logged in, which replaces the one before, if there is one. */
  onOnline(connection: Connection, answer: Frame): void;
  /** Called when the connection is gone and none has replaced it. */
  onOffline(reason: Error): void;
  onFrame(frame: Frame): void;
  /** Called once, when it gives up or was closed. */
  onEnd(reason: Error | undefined): void;
}

/** A connection that has worked for so long is no failure when it breaks. */
const stableMs = 30_000;

interface Attempt {
  connection?: Connection;
}

/**
 * Keeps one connection alive: decides when to connect, when to move, and when to give up. While it moves there are two:
 * the one before is used until the new one has logged in.
 */
export class Link {
  readonly #config: LinkConfig;
  #current: Connection | undefined;
  #attempt: Attempt | undefined;
  #cancelTimer: (() => void) | undefined;
  #failures = 0;
  #onlineSince = 0;
  #expired = false;
  #url = 0;
  #ended = false;
  #state: State = { status: 'new' };
  #stopWakeups = () => {};

  constructor(config: LinkConfig) {
    this.#config = config;
  }

  get state(): State {
    return this.#state;
  }

  get connection(): Connection | undefined {
    return this.#current;
  }

  /** Connects for the first time. */
  start(): void {
    this.#stopWakeups = this.#config.environment.onWakeup((network) => this.#wake(network));
    this.#open();
  }

  /** Ends everything, without logging out. */
  close(reason?: Error): void {
    this.#finish(reason, (connection) => connection.close());
  }

  /** Logs out if there is a connection, and ends everything. Resolves when the server has closed the connection. */
  async logOut(): Promise<void> {
    let closed: Promise<void> | undefined;
    this.#finish(undefined, (connection) => {
      closed = connection.logOut();
    });
    await closed;
  }

  /** Ends the connection and connects again after a delay, as after a failure of the network, when ready says so. */
  interrupt(reason: ConnectionLostError, whenReady: (callback: () => void) => void): void {
    const connection = this.#current;
    if (connection === undefined) {
      return;
    }
    connection.close();
    this.#lost(connection, reason);
    if (this.#cancelTimer !== undefined) {
      const delayMs = this.#state.status === 'waiting' ? this.#state.delayMs : 0;
      this.#schedule(delayMs, () => whenReady(() => this.#open()));
    }
  }

  /** Asks for a token. */
  async freshToken(): Promise<string> {
    const { token, loginTimeoutMs } = this.#config.settings;
    if (typeof token === 'string') {
      return token;
    }
    let cancel = () => {};
    const timeout = new Promise<never>((_, reject) => {
      cancel = this.#config.environment.after(loginTimeoutMs, () =>
        reject(new TimeoutError('token provider', loginTimeoutMs)),
      );
    });
    try {
      return await Promise.race([token({ expired: this.#expired }), timeout]);
    } finally {
      cancel();
    }
  }

  /** Begins an attempt to connect and log in, unless one is going on. */
  #open(): void {
    this.#stopTimer();
    if (this.#ended || this.#attempt !== undefined) {
      return;
    }
    const attempt: Attempt = {};
    this.#attempt = attempt;
    this.#setState({ status: 'connecting', failures: this.#failures });
    this.freshToken().then(
      (token) => this.#dial(attempt, token),
      (error: unknown) => this.#failed(attempt, new ConnectionLostError(`there is no token: ${textOf(error)}`)),
    );
  }

  #dial(attempt: Attempt, token: string): void {
    if (this.#attempt !== attempt) {
      return;
    }
    const { urls, WebSocket, environment, login, settings, onFrame } = this.#config;
    try {
      const connection = new Connection({
        url: urls[this.#url % urls.length] ?? '',
        WebSocket,
        environment,
        login: { ...login, token },
        loginTimeoutMs: settings.loginTimeoutMs,
        onLogin: (answer) => this.#succeeded(connection, answer),
        onFrame: (frame) => {
          if (frame.type === FrameType.Reconnect) {
            this.#move(connection, frame.delayMs ?? 0);
          } else {
            onFrame(frame);
          }
        },
        onEnd: (reason) => {
          this.#failed(attempt, reason);
          this.#lost(connection, reason);
        },
      });
      attempt.connection = connection;
    } catch (error) {
      // The environment refuses the URL, as a page that came by https does with ws://. It will again.
      this.close(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #succeeded(connection: Connection, answer: Frame): void {
    const before = this.#current;
    this.#attempt = undefined;
    this.#current = connection;
    this.#onlineSince = this.#config.environment.now();
    this.#expired = false;
    before?.close();
    this.#config.onOnline(connection, answer);
    this.#setState({ status: 'online', login: loginOf(answer) });
  }

  /** Handles the end of an attempt. */
  #failed(attempt: Attempt, reason: Error): void {
    if (this.#attempt !== attempt) {
      return;
    }
    this.#attempt = undefined;
    this.#url++;
    if (this.#isFinal(reason)) {
      this.close(reason);
      return;
    }
    this.#wait(this.#nextDelay(reason), reason);
  }

  /** Handles the end of the connection. */
  #lost(connection: Connection, reason: Error): void {
    if (this.#current !== connection) {
      return;
    }
    this.#current = undefined;
    // While it moves, the device that logged in elsewhere is this one.
    const moved = this.#attempt?.connection?.loginSent === true && reason instanceof ServerError && reason.kicked;
    if (!moved && this.#isFinal(reason)) {
      this.#config.onOffline(reason);
      this.close(reason);
      return;
    }
    this.#config.onOffline(reason);
    if (this.#ended) {
      return;
    }
    if (this.#attempt !== undefined) {
      this.#setState({ status: 'connecting', failures: this.#failures });
      return;
    }
    const { environment, settings } = this.#config;
    if (environment.now() - this.#onlineSince >= stableMs) {
      this.#failures = 0;
    }
    this.#wait(this.#delayAfterLoss(reason, settings.minDelayMs), reason);
  }

  /**
   * A gateway that stops has no time to spread its clients, and a token that has expired was good until now: no failures,
   * if they do not come in a row.
   */
  #delayAfterLoss(reason: Error, minDelayMs: number): number {
    const regular = this.#nextDelay(reason);
    if (this.#failures > 1) {
      return regular;
    }
    if (reason instanceof ServerError && reason.code === Code.TokenExpired) {
      return 0;
    }
    if (reason instanceof ConnectionLostError && reason.closeCode === 1001) {
      return this.#config.environment.random() * minDelayMs;
    }
    return regular;
  }

  /** Returns the delay after one more failure: at least what the server asked for. */
  #nextDelay(reason: Error): number {
    const { settings, environment } = this.#config;
    if (reason instanceof ServerError && reason.code === Code.TokenExpired) {
      this.#expired = true;
    }
    const backoff = { minMs: settings.minDelayMs, maxMs: settings.maxDelayMs };
    const delay = backoffDelay(backoff, this.#failures++, environment);
    return Math.max(delay, reason instanceof ServerError ? (reason.delayMs ?? 0) : 0);
  }

  #isFinal(reason: Error): boolean {
    if (reason instanceof ServerError) {
      const expired = reason.code === Code.TokenExpired && typeof this.#config.settings.token === 'string';
      return expired || endsSession(reason.code);
    }
    return reason instanceof ConnectionLostError && reason.closeCode === 1000;
  }

  /** Moves to another gateway after a delay, because this one is going away. */
  #move(connection: Connection, delayMs: number): void {
    if (connection === this.#current && this.#attempt === undefined && this.#cancelTimer === undefined) {
      this.#schedule(delayMs, () => this.#open());
    }
  }

  #wait(delayMs: number, reason: Error): void {
    if (this.#cancelTimer === undefined) {
      this.#schedule(delayMs, () => this.#open());
    }
    this.#setState({ status: 'waiting', delayMs, failures: this.#failures, reason });
  }

  #schedule(delayMs: number, callback: () => void): void {
    this.#stopTimer();
    this.#cancelTimer = this.#config.environment.after(delayMs, () => {
      this.#cancelTimer = undefined;
      callback();
    });
  }

  #stopTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  /** Does not wait any longer when the network is back, and looks whether the connection has survived. */
  #wake(network: boolean): void {
    this.#current?.probe();
    if (network && this.#state.status === 'waiting') {
      this.#open();
    }
  }

  /** Sets the state. While a connection works, attempts to replace it are not told. */
  #setState(state: State): void {
    if (this.#ended || (this.#current !== undefined && state.status !== 'online')) {
      return;
    }
    this.#state = state;
    this.#config.onState(state);
  }

  #finish(reason: Error | undefined, endCurrent: (connection: Connection) => void): void {
    if (this.#ended) {
      return;
    }
    this.#stopTimer();
    this.#stopWakeups();
    this.#attempt?.connection?.close();
    this.#attempt = undefined;
    const current = this.#current;
    this.#current = undefined;
    if (current !== undefined) {
      endCurrent(current);
    }
    const state: State = { status: 'closed', reason };
    this.#state = state;
    this.#ended = true;
    this.#config.onEnd(reason);
    this.#config.onState(state);
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
