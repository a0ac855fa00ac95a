package io.grpc.okhttp;

import io.grpc.ChannelCredentials;
import io.grpc.ForwardingChannelBuilder;
import io.grpc.ManagedChannelBuilder;

/** Absent: the interop client can take OkHttp for its transport, and takes Netty. */
public final class OkHttpChannelBuilder extends ForwardingChannelBuilder<OkHttpChannelBuilder> {
  public static OkHttpChannelBuilder forAddress(String host, int port, ChannelCredentials credentials) {
    throw new UnsupportedOperationException("OkHttp");
  }

  public static OkHttpChannelBuilder forTarget(String target, ChannelCredentials credentials) {
    throw new UnsupportedOperationException("OkHttp");
  }

  @Override
  protected ManagedChannelBuilder<?> delegate() {
    throw new UnsupportedOperationException("OkHttp");
  }
}
