/**
 * Which full block of the KV cache holds which prefix. A block's key is its own token ids, its place in
 * the tree the ids before it, so that a hit compares every id: what vLLM keys by a chain of hashes, but
 * without collisions, which a prompt could be made to cause.
 */

/** A prefix of whole blocks; the root is the empty one. */
export interface PrefixNode {
  readonly key: string;
  readonly parent: PrefixNode | null;
  readonly children: Map<string, PrefixNode>;
  /** The block that holds the last of the prefix's tokens; -1 once it was given to others. */
  block: number;
}

/** The longest known prefix: its blocks in order, and where in the tree it ends. */
export interface PrefixMatch {
  readonly blocks: readonly number[];
  readonly node: PrefixNode;
}

/** Tells prefixes apart; knows nothing of who uses a block. */
export class PrefixCache {
  readonly root: PrefixNode = nodeOf("", null, -1);
  readonly #nodes = new Map<number, PrefixNode>(); // by block

  /** Blocks that hold a known prefix. */
  get size(): number {
    return this.#nodes.size;
  }

  has(block: number): boolean {
    return this.#nodes.has(block);
  }

  /** Follows the keys as far as blocks are known. */
  match(keys: Iterable<string>): PrefixMatch {
    const blocks: number[] = [];
    let node = this.root;
    for (const key of keys) {
      const next = node.children.get(key);
      if (next === undefined || next.block < 0) break;
      blocks.push(next.block);
      node = next;
    }
    return { blocks, node };
  }

  /** `block` now holds `key` after `parent`'s tokens. If another block does already, that one stays. */
  register(parent: PrefixNode, key: string, block: number): PrefixNode {
    const known = parent.children.get(key);
    const node = known ?? nodeOf(key, parent, -1);
    if (known === undefined) this.#attach(node);
    if (node.block < 0) {
      node.block = block;
      this.#nodes.set(block, node);
    }
    return node;
  }

  /** The block is about to hold something else. */
  forget(block: number): void {
    const node = this.#nodes.get(block);
    if (node === undefined) return;
    this.#nodes.delete(block);
    node.block = -1;
    prune(node);
  }

  // The way up may have been pruned while a sequence still stood on it.
  #attach(node: PrefixNode): void {
    for (let at = node; at.parent !== null; at = at.parent) {
      if (at.parent.children.get(at.key) === at) return;
      if (at.parent.children.has(at.key)) return; // made anew by another: this branch stays unknown
      at.parent.children.set(at.key, at);
    }
  }
}

function nodeOf(key: string, parent: PrefixNode | null, block: number): PrefixNode {
  return { key, parent, children: new Map(), block };
}

// Takes nodes off that lead to no block.
function prune(node: PrefixNode): void {
  let at = node;
  while (at.parent !== null && at.block < 0 && at.children.size === 0) {
    if (at.parent.children.get(at.key) === at) at.parent.children.delete(at.key);
    at = at.parent;
  }
}
