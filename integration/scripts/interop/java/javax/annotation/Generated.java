package javax.annotation;

/** Left Java with version 11; generated code still carries it. */
public @interface Generated {
  String[] value();

  String comments() default "";
}
