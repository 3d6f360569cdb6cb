/* SplitMix64 (Steele, Lea and Flood 2014), the same draws bit for bit as
   qtlite/experiments/data/portable_random.py. JavaScript has no fast 64-bit integers, so a number
   is two halves of 32 bits. */
"use strict";

function qtlitePlaygroundRandom() {
  class PortableRandom {
    /* seed: an integer from 0 to 2^53 - 1. */
    constructor(seed) {
      this.stateHigh = Math.floor(seed / 2 ** 32) >>> 0;
      this.stateLow = seed >>> 0;
      this.high = 0;
      this.low = 0;
    }

    /* The next 64 bits, in this.high and this.low. */
    next() {
      const low = this.stateLow + 0x7f4a7c15;
      this.stateLow = low >>> 0;
      this.stateHigh = (this.stateHigh + 0x9e3779b9 + (low > 0xffffffff ? 1 : 0)) >>> 0;
      this.high = this.stateHigh;
      this.low = this.stateLow;
      this.fold(30);
      this.multiply(0xbf58476d, 0x1ce4e5b9);
      this.fold(27);
      this.multiply(0x94d049bb, 0x133111eb);
      this.fold(31);
    }

    /* z ^= z >> shift, for a shift below 32. */
    fold(shift) {
      const low = (this.low >>> shift) | (this.high << (32 - shift));
      this.high = (this.high ^ (this.high >>> shift)) >>> 0;
      this.low = (this.low ^ low) >>> 0;
    }

    /* z *= a constant, modulo 2^64; the low halves in pieces of 16 bits, so that no product rounds. */
    multiply(high, low) {
      const [a0, a1] = [this.low & 0xffff, this.low >>> 16];
      const [b0, b1] = [low & 0xffff, low >>> 16];
      const first = a0 * b0;
      const middle = a0 * b1 + a1 * b0 + Math.floor(first / 65536);
      const carried = a1 * b1 + Math.floor(middle / 65536);
      this.high = (carried + Math.imul(this.high, low) + Math.imul(this.low, high)) >>> 0;
      this.low = (((middle & 0xffff) << 16) | (first & 0xffff)) >>> 0;
    }

    /* A number in [0, 1) with 53 random bits. */
    uniform() {
      this.next();
      return (this.high * 2097152 + (this.low >>> 11)) * 2 ** -53;
    }

    /* Mean 0, variance 1: twelve uniform numbers of 16 bits less 6, so that nothing is rounded. */
    normal() {
      let sum = 6;
      for (let draw = 0; draw < 3; draw++) {
        this.next();
        sum += (this.low & 0xffff) + (this.low >>> 16) + (this.high & 0xffff) + (this.high >>> 16);
      }
      return sum / 65536 - 6;
    }

    /* The numbers 0 to n - 1 in random order: the order of n uniform numbers. */
    permutation(n) {
      const keys = Float64Array.from({ length: n }, () => this.uniform());
      return Int32Array.from(keys.keys()).sort((a, b) => keys[a] - keys[b] || a - b);
    }
  }

  return { PortableRandom };
}

if (typeof module !== "undefined") module.exports = qtlitePlaygroundRandom();
