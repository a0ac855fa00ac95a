package io.grpc.alts;

import io.grpc.ChannelCredentials;

/** Absent: the interop client names it, for connections inside Google's cloud. */
public final class GoogleDefaultChannelCredentials {
  public static ChannelCredentials create() {
    throw new UnsupportedOperationException("Google's credentials");
  }
}
