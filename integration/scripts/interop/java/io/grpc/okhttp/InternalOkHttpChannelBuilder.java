package io.grpc.okhttp;

/** Absent: the interop client can take OkHttp for its transport, and takes Netty. */
public final class InternalOkHttpChannelBuilder {
  public static void setStatsEnabled(OkHttpChannelBuilder builder, boolean value) {}
}
