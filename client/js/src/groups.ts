import { type Frame, FrameType, GroupAction } from './frames.js';

/** A group, as the server tells of it after a change. */
export interface Group {
  readonly id: string;
  readonly owner: string;
  /** How many members it has. */
  readonly count: number;
}

/** A page of users. */
export interface UserPage {
  readonly users: readonly string[];
  /** How many there are in all. */
  readonly count: number;
  /** Asks for the next page; undefined after the last one. */
  readonly cursor: string | undefined;
}

/** Which page is asked for. */
export interface PageOptions {
  /** Where it begins: the cursor of the page before. */
  cursor?: string | undefined;
  /** How many users it has at most. */
  limit?: number | undefined;
}

/**
 * Makes and manages groups. All methods wait for the server's answer; a refusal is a ServerError: Conflict, NotFound, or
 * Forbidden. A ConnectionLostError leaves the outcome unknown.
 */
export class Groups {
  readonly #call: (frame: Frame) => Promise<Frame>;

  /** @internal */
  constructor(call: (frame: Frame) => Promise<Frame>) {
    this.#call = call;
  }

  /** Makes a group of this user, its owner, and of others. */
  create(id: string, users: readonly string[] = []): Promise<Group> {
    return this.#change(GroupAction.Create, id, users);
  }

  /** Makes users members. Owner only. */
  add(id: string, users: readonly string[]): Promise<Group> {
    return this.#change(GroupAction.Add, id, users);
  }

  /** Takes users out. Owner only, but everybody may take themselves out. */
  remove(id: string, users: readonly string[]): Promise<Group> {
    return this.#change(GroupAction.Remove, id, users);
  }

  /** Ends a group. Owner only. */
  async delete(id: string): Promise<void> {
    await this.#change(GroupAction.Delete, id);
  }

  /** Returns a page of the members. Members only. */
  async members(id: string, page: PageOptions = {}): Promise<UserPage> {
    return pageOf(
      await this.#call({ type: FrameType.Group, action: GroupAction.Members, groupId: id, ...definedOf(page) }),
    );
  }

  async #change(action: string, id: string, users: readonly string[] = []): Promise<Group> {
    const frame: Frame = { type: FrameType.Group, action, groupId: id };
    if (users.length > 0) {
      frame.users = [...users];
    }
    const answer = await this.#call(frame);
    return { id: answer.groupId ?? id, owner: answer.owner ?? '', count: answer.count ?? 0 };
  }
}

/** Reads the page of an answer. */
export function pageOf(answer: Frame): UserPage {
  return { users: answer.users ?? [], count: answer.count ?? 0, cursor: answer.cursor || undefined };
}

/** Returns the fields of a request for a page. */
export function definedOf(page: PageOptions): { cursor?: string; limit?: number } {
  return {
    ...(page.cursor === undefined ? {} : { cursor: page.cursor }),
    ...(page.limit === undefined ? {} : { limit: page.limit }),
  };
}
